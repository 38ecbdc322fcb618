"""A surge: more load for a while on a service that scales, and whether the service grew with it and shrank again unnoticed.

    sample      what was there at one moment
    judgement   what was asked for, what was seen, and the verdict
    archive     the folder that a surge leaves behind

Like all of drills/, nothing here touches an outside system. `python -m drills.surge FOLDER -o PICTURE` draws the picture again.
"""

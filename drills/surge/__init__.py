"""A surge: more load for a while on a service that scales. The service must grow with it and shrink again, without losing a request.

    sample      the service at one moment
    judgement   the plan, the observation and the verdict
    archive     the folder of a surge

Like all of drills/, nothing here touches an outside system. `python -m drills.surge FOLDER -o PICTURE` redraws the picture.
"""

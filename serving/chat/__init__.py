"""A page to talk to the service, on port 7860.

    LEEWARD_URL=http://SERVICE:8000 python -m serving.chat

    conversation   what was said, and how the page shows it; pure
    service        OpenAI's API, asked until it answers or patience ends; knows nothing of the page
    words          errors in words for a person
    page           Gradio

A conversation lives in the browser and comes with every message, so nothing is lost when this process starts again.
"""

PORT = 7860

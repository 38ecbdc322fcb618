"""A page to talk to the service, on port 7860.

    LEEWARD_URL=http://SERVICE:8000 python -m serving.chat

    conversation     the messages, and how the page shows them; no I/O
    service          a client of OpenAI's API that tries until the service answers or a time limit; knows nothing of the page
    error_messages   errors as messages for the user
    page             Gradio

The browser keeps the conversation and sends it with every message, so nothing is lost when this process starts again.
"""

PORT = 7860

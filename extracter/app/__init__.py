"""A page in the browser that enlarges photographs on this machine; needs the extra `app` (Gradio)."""

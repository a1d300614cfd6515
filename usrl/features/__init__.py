"""Features of the frames of clips: networks that learn them, and tables that hold them."""

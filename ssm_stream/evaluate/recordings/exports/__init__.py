"""Tables as people export them: what their cells mean is detected from the file, and can be given by options."""

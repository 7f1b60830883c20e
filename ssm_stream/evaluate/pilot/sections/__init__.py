"""What else is judged: for each, its figures and its section of the page. `layout` has the parts of a section."""

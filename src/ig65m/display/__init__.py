"""Results in forms for people: colours, pictures, HTML, charts and tables, made of plain numbers and words."""

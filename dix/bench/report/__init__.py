"""Tables as text, pictures and pages."""

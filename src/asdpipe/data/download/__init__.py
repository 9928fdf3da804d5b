"""Downloads that go on where they stopped, and archives that are unpacked whole."""

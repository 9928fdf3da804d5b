"""Downloads that are resumed and verified, and archives that are unpacked safely."""

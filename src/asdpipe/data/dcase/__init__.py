"""DCASE Task 2: years, archives, folders, file names, published counts and ground truth."""

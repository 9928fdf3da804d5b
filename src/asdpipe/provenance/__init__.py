"""Where results came from: records beside files, digests of code, the tree that asdpipe explain prints."""

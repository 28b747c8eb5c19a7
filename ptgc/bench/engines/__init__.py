"""One engine a file; a worker process holds one of them."""

"""What more than one analysis uses; no analysis imports another."""

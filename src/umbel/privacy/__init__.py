"""Privacy that composes with every strategy: what a server learns, and what it does not."""

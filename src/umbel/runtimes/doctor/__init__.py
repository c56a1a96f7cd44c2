"""What `umbel doctor` looks at: small checks that return a `Finding`, a module per group. None changes a thing."""

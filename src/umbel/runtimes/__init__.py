"""What drives a coordinator: simulation engines here, servers and nodes beside them."""

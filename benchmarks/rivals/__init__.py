"""The same work by other libraries that make agents or functions durable, each set to be durable after every step."""

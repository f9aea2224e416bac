"""The same work by other libraries that make agents or functions durable, each in the way its own documentation recommends."""

"""What requests and answers look like: marshmallow schemas, from which OpenAPI is made."""

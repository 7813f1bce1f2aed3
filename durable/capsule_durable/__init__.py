"""The durable backend of Capsule."""

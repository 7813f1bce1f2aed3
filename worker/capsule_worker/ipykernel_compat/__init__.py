"""Stand-ins for ipykernel and the objects that its users expect."""

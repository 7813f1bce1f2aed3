"""The front's half of the sandbox: policy, environment, resource limits."""

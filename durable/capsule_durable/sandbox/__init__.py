"""The front's part of the sandbox: policy, environment variables, resource limits."""

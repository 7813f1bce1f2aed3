"""What happens when something fails: processes that die, hang, flood and lie."""

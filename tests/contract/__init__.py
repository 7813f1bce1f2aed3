"""What every engine must do, asked of each; and what is asked of the embedded one alone."""

"""What a study is: its parameters, its jobs, their identities and records."""

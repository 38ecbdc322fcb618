"""AWS without Terraform: the state bucket, the password of Redis, and what a stack may leave behind."""

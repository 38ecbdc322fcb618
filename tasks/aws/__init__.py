"""What the pipeline keeps in AWS outside Terraform, and what a stack may leave behind there."""

"""Authorization of requests: what a principal's policies allow, as IAM on AWS decides it."""

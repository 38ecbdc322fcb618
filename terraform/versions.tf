terraform {
  # 1.11: the S3 backend's own lock file, and validations that look at other variables.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # Bucket, key and region come from a -backend-config file: the bucket is made outside Terraform and outlives it.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

# The same for AWS and for anything that answers AWS's API: an endpoint comes from AWS_ENDPOINT_URL alone.
provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

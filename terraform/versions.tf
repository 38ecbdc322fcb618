terraform {
  # 1.11: lock files of the S3 backend, and validations that use other variables.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # Bucket, key and region come from a -backend-config file: the bucket is created outside Terraform and outlives the stack.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

# The same for AWS and for other servers of AWS's API: an endpoint is set only by AWS_ENDPOINT_URL.
provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

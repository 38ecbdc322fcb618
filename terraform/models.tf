# What the workers may do in S3, through Pod Identity: read models, and keep what they compiled. `deploy` gives the role to the service account
# `workers` of the service's namespace, if the service needs it.

locals {
  s3_arn = "arn:${data.aws_partition.current.partition}:s3:::"
  # The stack's bucket also holds Terraform's state and the evidence: only these two folders are theirs.
  bucket_arn = "${local.s3_arn}${local.names.bucket}"
}

resource "aws_iam_role" "models" {
  name               = local.names.models_role
  description        = "Workers of the EKS cluster ${var.name}: models and compiled graphs in S3"
  assume_role_policy = data.aws_iam_policy_document.trust["pods"].json
}

resource "aws_iam_role_policy" "models" {
  name = "models"
  role = aws_iam_role.models.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "Read"
          Effect   = "Allow"
          Action   = "s3:GetObject"
          Resource = concat(["${local.bucket_arn}/models/*", "${local.bucket_arn}/compiled/*"], [for bucket in var.model_buckets : "${local.s3_arn}${bucket}/*"])
        },
        {
          Sid       = "FindInOwn"
          Effect    = "Allow"
          Action    = "s3:ListBucket"
          Resource  = local.bucket_arn
          Condition = { StringLike = { "s3:prefix" = ["models/*", "compiled/*"] } }
        },
        {
          Sid      = "Keep"
          Effect   = "Allow"
          Action   = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
          Resource = "${local.bucket_arn}/compiled/*"
        },
      ],
      [for bucket in var.model_buckets : { Sid = "Find${index(var.model_buckets, bucket)}", Effect = "Allow", Action = "s3:ListBucket", Resource = "${local.s3_arn}${bucket}" }],
    )
  })
}

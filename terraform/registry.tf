resource "aws_ecr_repository" "serving" {
  #checkov:skip=CKV_AWS_136:Encrypted with ECR's own key; the image holds no secret
  name                 = local.names.repository
  image_tag_mutability = "IMMUTABLE"
  # Images are built from this repository's files, so cleanup may delete them.
  force_delete = true

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

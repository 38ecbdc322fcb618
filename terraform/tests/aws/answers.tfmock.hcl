# What the mocked AWS answers where a made-up string would not do.

mock_data "aws_availability_zones" {
  defaults = { names = ["us-west-2a", "us-west-2b", "us-west-2c", "us-west-2d"] }
}

mock_data "aws_ec2_instance_type_offerings" {
  defaults = { locations = ["us-west-2d", "us-west-2b"] }
}

override_data {
  target = data.aws_ec2_instance_type_offerings.core
  values = { locations = ["us-west-2a", "us-west-2b", "us-west-2c", "us-west-2d"] }
}

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_data "aws_caller_identity" {
  defaults = {
    account_id = "123456789012"
    arn        = "arn:aws:sts::123456789012:assumed-role/pipeline/a-session"
  }
}

mock_data "aws_iam_session_context" {
  defaults = { issuer_arn = "arn:aws:iam::123456789012:role/pipeline" }
}

mock_data "aws_iam_policy_document" {
  defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
}

mock_data "aws_eks_addon_version" {
  defaults = { version = "v1.2.3-eksbuild.1" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
}

mock_resource "aws_eks_cluster" {
  defaults = {
    certificate_authority = [{ data = "UEVN" }]
    vpc_config = {
      cluster_security_group_id = "sg-0123456789abcdef0"
    }
  }
}

mock_resource "aws_launch_template" {
  defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
}

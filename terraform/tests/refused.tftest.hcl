# What is refused before anything is touched.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name             = "mistral"
  region           = "us-west-2"
  redis_auth_token = "0123456789abcdef0123456789abcdef"
}

run "the_longest_name_fits_every_service" {
  command = plan

  variables {
    name   = "a23456789b123456789c1234567"
    region = "ap-southeast-9"
  }

  assert {
    condition = alltrue([
      length(local.names.redis_group) <= 40,
      alltrue([for role in ["cluster_role", "node_role", "cni_role", "karpenter_role", "karpenter_node_role", "models_role"] : length(local.names[role]) <= 64]),
      alltrue([for rule in values(aws_cloudwatch_event_rule.karpenter) : length(rule.name) <= 64]),
      length(local.names.karpenter) <= 80,
      length("${local.prefix}-123456789012-${var.region}") <= 63,
      length(var.name) + 5 <= 32,
    ])
    error_message = "A name of the greatest length does not fit a service."
  }
}

run "a_longer_name" {
  command = plan

  variables {
    name = "a23456789b123456789c12345678"
  }

  expect_failures = [var.name]
}

run "two_dashes_in_a_row" {
  command = plan

  variables {
    name = "mistral--7b"
  }

  expect_failures = [var.name]
}

run "a_capital_letter" {
  command = plan

  variables {
    name = "Mistral"
  }

  expect_failures = [var.name]
}

run "a_digit_first" {
  command = plan

  variables {
    name = "7b"
  }

  expect_failures = [var.name]
}

run "gcs_ha_without_a_token" {
  command = plan

  variables {
    redis_auth_token = null
  }

  expect_failures = [var.redis_auth_token]
}

run "a_token_that_elasticache_does_not_take" {
  command = plan

  variables {
    redis_auth_token = "with_underscore_0123456789"
  }

  expect_failures = [var.redis_auth_token]
}

run "a_redis_without_a_replica" {
  command = plan

  variables {
    redis = { replicas = 0 }
  }

  expect_failures = [var.redis]
}

run "one_core_node" {
  command = plan

  variables {
    core_nodes = { count = 1 }
  }

  expect_failures = [var.core_nodes]
}

run "a_core_node_of_another_architecture" {
  command = plan

  variables {
    core_nodes = { instance_type = "m7g.xlarge" }
  }

  expect_failures = [var.core_nodes]
}

run "half_an_inf2_node" {
  command = plan

  variables {
    inf2_nodes = { count = 1.5 }
  }

  expect_failures = [var.inf2_nodes]
}

run "a_gpu_as_inf2" {
  command = plan

  variables {
    inf2_nodes = { instance_type = "g5.xlarge" }
  }

  expect_failures = [var.inf2_nodes]
}

run "a_gpu_as_fallback" {
  command = plan

  variables {
    inf2_nodes = { fallback_types = ["inf2.24xlarge", "g5.xlarge"] }
  }

  expect_failures = [var.inf2_nodes]
}

run "an_unknown_provisioner" {
  command = plan

  variables {
    inf2_nodes = { provisioner = "autoscaler" }
  }

  expect_failures = [var.inf2_nodes]
}

run "a_vpc_too_small" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/24"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_vpc_with_bits_of_a_host" {
  command = plan

  variables {
    vpc_cidr = "10.20.0.1/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_vpc_of_the_internets" {
  command = plan

  variables {
    vpc_cidr = "172.32.0.0/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_vpc_within_the_clusters_services" {
  command = plan

  variables {
    vpc_cidr = "172.20.64.0/18"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_version_with_a_patch" {
  command = plan

  variables {
    kubernetes_version = "1.35.4"
  }

  expect_failures = [var.kubernetes_version]
}

run "a_tag_of_aws_or_ours" {
  command = plan

  variables {
    tags = { "leeward:name" = "another" }
  }

  expect_failures = [var.tags]
}

run "a_tag_of_karpenter" {
  command = plan

  variables {
    tags = { "karpenter.sh/nodepool" = "mine" }
  }

  expect_failures = [var.tags]
}

run "a_tag_without_a_key" {
  command = plan

  variables {
    tags = { "" = "nothing" }
  }

  expect_failures = [var.tags]
}

run "tags_that_differ_in_case_only" {
  command = plan

  variables {
    tags = { team = "a", Team = "b" }
  }

  expect_failures = [var.tags]
}

run "more_zones_than_the_region_has" {
  command = plan

  variables {
    az_count = 3
  }

  override_data {
    target = data.aws_availability_zones.open
    values = { names = ["us-west-2b", "us-west-2d"] }
  }

  expect_failures = [aws_vpc.this]
}

run "a_zone_that_the_region_has_not" {
  command = plan

  variables {
    availability_zones = ["us-west-2b", "us-west-2x"]
  }

  override_data {
    target = data.aws_availability_zones.open
    values = { names = ["us-west-2b", "us-west-2d"] }
  }

  expect_failures = [aws_vpc.this]
}

run "zones_without_the_type_of_the_core_nodes" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type_offerings.core
    values = { locations = ["us-west-2b"] }
  }

  expect_failures = [aws_vpc.this]
}

run "a_region_without_inf2" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type_offerings.inf2
    values = { locations = [] }
  }

  expect_failures = [aws_vpc.this]
}

run "a_url_in_place_of_a_bucket" {
  command = plan

  variables {
    model_buckets = ["s3://weights/mistral"]
  }

  expect_failures = [var.model_buckets]
}

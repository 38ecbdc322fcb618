# What the plan makes. No AWS is asked.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name             = "mistral"
  region           = "us-west-2"
  redis_auth_token = "0123456789abcdef0123456789abcdef"
}

run "without_gcs_ha_there_is_no_redis" {
  command = plan

  variables {
    enable_gcs_ha    = false
    redis_auth_token = null
  }

  assert {
    condition = alltrue([for made in [
      aws_elasticache_replication_group.gcs, aws_elasticache_parameter_group.gcs, aws_elasticache_subnet_group.gcs,
      aws_security_group.redis, aws_vpc_security_group_ingress_rule.redis_from_nodes,
    ] : length(made) == 0])
    error_message = "Something of Redis is left with enable_gcs_ha = false."
  }
  assert {
    condition     = output.redis == null
    error_message = "The redis output is not null with enable_gcs_ha = false."
  }
}

run "redis_fails_over_and_is_closed_to_others" {
  command = plan

  assert {
    condition = (
      aws_elasticache_replication_group.gcs[0].automatic_failover_enabled
      && aws_elasticache_replication_group.gcs[0].multi_az_enabled
      && aws_elasticache_replication_group.gcs[0].num_cache_clusters == 2
    )
    error_message = "Redis does not fail over to another zone."
  }
  assert {
    condition = (
      aws_elasticache_replication_group.gcs[0].transit_encryption_enabled
      && aws_elasticache_replication_group.gcs[0].at_rest_encryption_enabled
      && aws_elasticache_replication_group.gcs[0].auth_token == var.redis_auth_token
    )
    error_message = "Redis is without encryption or AUTH."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.redis_from_nodes[0].cidr_ipv4 == null && aws_vpc_security_group_ingress_rule.redis_from_nodes[0].from_port == 6379
    error_message = "Redis is open to addresses instead of the cluster's security group."
  }
}

run "redis_never_drops_state_or_idle_connections" {
  command = plan

  assert {
    condition = { for parameter in aws_elasticache_parameter_group.gcs[0].parameter : parameter.name => parameter.value } == {
      maxmemory-policy = "noeviction"
      timeout          = "0"
    }
    error_message = "Redis may evict keys or close idle connections: both end Ray's head."
  }
}

run "by_default_karpenter_launches_the_inf2_nodes" {
  command = plan

  assert {
    condition     = length(aws_eks_node_group.inf2) == 0 && keys(aws_launch_template.pool) == ["core"]
    error_message = "There is a node group for inf2 besides Karpenter."
  }
  assert {
    condition     = keys(output.node_groups) == ["core"]
    error_message = "The outputs name a node group that is not there."
  }
  assert {
    condition     = aws_sqs_queue.karpenter[0].name == "leeward-mistral-karpenter" && aws_iam_instance_profile.karpenter_node[0].role == aws_iam_role.karpenter_node[0].name
    error_message = "Karpenter has no queue, or its nodes have another role than the one made for them."
  }
  assert {
    condition     = aws_eks_pod_identity_association.karpenter[0].namespace == "kube-system" && aws_eks_pod_identity_association.karpenter[0].service_account == "karpenter"
    error_message = "Karpenter's service account gets no role."
  }
}

run "karpenters_nodes_have_a_role_of_their_own_that_may_join" {
  command = plan

  assert {
    condition     = aws_iam_role.karpenter_node[0].name != aws_iam_role.node.name && aws_eks_access_entry.karpenter_node[0].type == "EC2_LINUX"
    error_message = "EKS makes the access entry of a node group's role itself: a second one is refused."
  }
  assert {
    condition     = keys(aws_iam_role_policy_attachment.karpenter_node) == keys(aws_iam_role_policy_attachment.node)
    error_message = "Karpenter's nodes have other rights than those of the groups."
  }
}

run "karpenter_hears_of_every_interruption" {
  command = plan

  assert {
    condition = toset([for rule in values(aws_cloudwatch_event_rule.karpenter) : jsondecode(rule.event_pattern)]) == toset([
      { source = ["aws.health"], detail-type = ["AWS Health Event"] },
      { source = ["aws.ec2"], detail-type = ["EC2 Instance Rebalance Recommendation"] },
      { source = ["aws.ec2"], detail-type = ["EC2 Spot Instance Interruption Warning"] },
      { source = ["aws.ec2"], detail-type = ["EC2 Instance State-change Notification"] },
    ])
    error_message = "An event does not reach the queue."
  }
  assert {
    condition     = keys(aws_cloudwatch_event_target.karpenter) == keys(aws_cloudwatch_event_rule.karpenter)
    error_message = "A rule has no target."
  }
  assert {
    condition     = aws_sqs_queue.karpenter[0].sqs_managed_sse_enabled && aws_sqs_queue.karpenter[0].message_retention_seconds == 300
    error_message = "The queue is not encrypted, or keeps what is of no use any more."
  }
}

run "karpenter_touches_only_what_is_its_clusters" {
  command = plan

  assert {
    condition = alltrue([
      for name, statement in local.karpenter_rights.instances :
      strcontains(jsonencode(statement.Condition), "kubernetes.io/cluster/mistral") if !contains(["LaunchFrom", "PassNodeRole"], name)
    ])
    error_message = "A right over instances is not bound to the cluster's tag."
  }
  assert {
    condition     = length([for action in flatten([for statement in values(merge(values(local.karpenter_rights)...)) : statement.Action]) : action if startswith(action, "iam:") && !contains(["iam:PassRole", "iam:GetInstanceProfile", "iam:ListInstanceProfiles"], action)]) == 0
    error_message = "Karpenter may change something in IAM."
  }
}

run "a_managed_group_takes_karpenters_place" {
  command = plan

  variables {
    inf2_nodes = { provisioner = "managed", count = 3 }
  }

  assert {
    condition = alltrue([for made in [
      aws_iam_role.karpenter, aws_iam_role.karpenter_node, aws_iam_role_policy.karpenter, aws_iam_role_policy_attachment.karpenter_node,
      aws_iam_instance_profile.karpenter_node, aws_eks_access_entry.karpenter_node, aws_eks_pod_identity_association.karpenter, aws_sqs_queue.karpenter,
      aws_cloudwatch_event_rule.karpenter, aws_cloudwatch_event_target.karpenter,
    ] : length(made) == 0])
    error_message = "Something of Karpenter is left beside a managed group."
  }
  assert {
    condition     = output.karpenter == null
    error_message = "The outputs speak of a Karpenter that is not there."
  }
  assert {
    condition     = output.node_groups == { core = "core", inf2 = "inf2" } && aws_eks_node_group.inf2[0].scaling_config[0].desired_size == 3
    error_message = "The group is not there, or not of the size asked for."
  }
}

run "a_managed_groups_nodes_take_only_what_asks_for_neuron" {
  command = plan

  variables {
    inf2_nodes = { provisioner = "managed" }
  }

  assert {
    condition     = [for taint in aws_eks_node_group.inf2[0].taint : "${taint.key}=${taint.value}:${taint.effect}"] == ["aws.amazon.com/neuron=true:NO_SCHEDULE"]
    error_message = "The inf2 group has not its taint."
  }
  assert {
    condition     = length(aws_eks_node_group.core.taint) == 0 && aws_eks_node_group.core.labels["leeward.dev/pool"] == "core" && aws_eks_node_group.inf2[0].labels["leeward.dev/pool"] == "inf2"
    error_message = "The pools are not labelled leeward.dev/pool, or core is tainted."
  }
  assert {
    condition     = aws_eks_node_group.inf2[0].ami_type == "AL2023_x86_64_NEURON" && aws_eks_node_group.inf2[0].instance_types == tolist(["inf2.8xlarge", "inf2.24xlarge"])
    error_message = "The inf2 group runs another image, or other types in another order, than asked for."
  }
}

run "nodes_are_private_and_keep_their_credentials" {
  command = plan

  variables {
    inf2_nodes = { provisioner = "managed" }
  }

  assert {
    condition     = alltrue([for subnet in values(aws_subnet.public) : !subnet.map_public_ip_on_launch])
    error_message = "A subnet gives public addresses to what starts in it."
  }
  assert {
    condition = alltrue([for template in values(aws_launch_template.pool) : (
      template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1
    )])
    error_message = "A pod can reach its node's credentials."
  }
  assert {
    condition     = alltrue([for template in values(aws_launch_template.pool) : template.block_device_mappings[0].ebs[0].encrypted == "true"])
    error_message = "A node's disk is not encrypted."
  }
}

run "the_caller_administers_and_nobody_gets_in_unnamed" {
  command = plan

  assert {
    condition     = keys(aws_eks_access_entry.admin) == ["arn:aws:iam::123456789012:role/pipeline"]
    error_message = "The access entry is not for the role behind the caller's session."
  }
  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "Someone may enter the cluster without an access entry."
  }
}

run "further_administrators_are_added_to_the_caller" {
  command = plan

  variables {
    admin_principal_arns = ["arn:aws:iam::123456789012:role/team", "arn:aws:iam::123456789012:role/pipeline"]
  }

  assert {
    condition     = length(aws_eks_access_policy_association.admin) == 2
    error_message = "Named administrators and the caller do not make two entries."
  }
}

run "an_empty_list_closes_the_public_endpoint" {
  command = plan

  variables {
    public_access_cidrs = []
  }

  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "The public endpoint is open though nobody is named."
  }
}

run "zones_are_those_that_offer_inf2" {
  command = plan

  assert {
    condition     = keys(aws_subnet.private) == ["us-west-2b", "us-west-2d"]
    error_message = "Subnets are in zones without inf2 though two have it."
  }
}

run "inf2_keeps_to_its_zones_when_there_are_more" {
  command = plan

  variables {
    az_count = 3
  }

  assert {
    condition     = keys(aws_subnet.private) == ["us-west-2a", "us-west-2b", "us-west-2d"] && local.zones_of_nodes.inf2 == ["us-west-2b", "us-west-2d"]
    error_message = "inf2 nodes were planned in a zone that has none."
  }
  assert {
    condition     = { for pool, ids in output.karpenter.subnet_ids : pool => length(ids) } == { core = 3, inf2 = 2 }
    error_message = "Karpenter launches core nodes in some zones only, or inf2 nodes where there are none."
  }
}

run "zones_with_the_first_type_come_before_those_with_a_fallback" {
  command = plan

  variables {
    az_count = 3
  }

  override_data {
    target = data.aws_ec2_instance_type_offerings.inf2["inf2.24xlarge"]
    values = { locations = ["us-west-2c", "us-west-2b"] }
  }

  assert {
    condition     = local.zones_inf2 == tolist(["us-west-2b", "us-west-2d", "us-west-2c"]) && local.zones_of_nodes.inf2 == ["us-west-2b", "us-west-2d", "us-west-2c"]
    error_message = "Karpenter cannot use a fallback type where it is, or a zone that has nothing else comes first."
  }
}

run "a_managed_group_is_not_in_zones_without_its_first_type" {
  command = plan

  variables {
    az_count   = 3
    inf2_nodes = { provisioner = "managed" }
  }

  override_data {
    target = data.aws_ec2_instance_type_offerings.inf2["inf2.24xlarge"]
    values = { locations = ["us-west-2a", "us-west-2b"] }
  }

  assert {
    condition     = local.zones_of_nodes.inf2 == ["us-west-2b", "us-west-2d"]
    error_message = "The group would take its dearer type just to spread over the zones."
  }
}

run "subnets_do_not_overlap" {
  command = plan

  assert {
    condition     = [for subnet in concat(values(aws_subnet.public), values(aws_subnet.private)) : subnet.cidr_block] == ["10.20.0.0/24", "10.20.1.0/24", "10.20.16.0/20", "10.20.32.0/20"]
    error_message = "The subnets' ranges are not those of network.tf."
  }
}

run "every_resource_has_the_tags_of_its_stack" {
  command = plan

  variables {
    owner      = "ml-platform"
    tags       = { team = "search" }
    inf2_nodes = { provisioner = "managed" }
  }

  assert {
    condition = tomap(local.tags) == tomap({
      "leeward:name" = "mistral", "leeward:owner" = "ml-platform", "team" = "search"
    })
    error_message = "Name, owner or the user's own tag is missing."
  }
  assert {
    condition = alltrue(flatten([for template in values(aws_launch_template.pool) : [
      for spec in template.tag_specifications : spec.tags["leeward:name"] == "mistral"
    ]]))
    error_message = "What a launch template starts is not tagged with the stack's name."
  }
}

run "an_own_key_encrypts_the_secrets" {
  command = plan

  variables {
    secrets_kms_key_arn = "arn:aws:kms:us-west-2:123456789012:key/00000000-0000-0000-0000-000000000000"
  }

  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == var.secrets_kms_key_arn
    error_message = "The key given is not used."
  }
}

run "the_control_plane_has_addresses_that_no_pod_has" {
  command = plan

  assert {
    condition     = output.control_plane_cidrs == ["10.20.8.0/24", "10.20.9.0/24"]
    error_message = "The control plane's subnets are others than in the comment above them."
  }
  assert {
    condition     = jsondecode(aws_eks_addon.node["vpc-cni"].configuration_values) == { enableNetworkPolicy = "true" }
    error_message = "The network plug-in does not enforce network policies."
  }
}

run "the_smallest_vpc_has_room_for_all_subnets" {
  command = plan

  variables {
    vpc_cidr           = "10.20.0.0/20"
    az_count           = 3
    availability_zones = ["us-west-2a", "us-west-2b", "us-west-2d"]
  }

  assert {
    condition     = output.control_plane_cidrs == ["10.20.0.128/28", "10.20.0.144/28", "10.20.0.160/28"]
    error_message = "EKS needs a /28 for its network interfaces."
  }
}

run "workers_read_models_and_write_compiled_graphs_and_nothing_else" {
  command = plan

  variables {
    model_buckets = ["weights"]
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.models.policy).Statement : alltrue([
        for resource in flatten([statement.Resource]) : contains([
          "arn:aws:s3:::leeward-mistral-123456789012-us-west-2",
          "arn:aws:s3:::leeward-mistral-123456789012-us-west-2/models/*",
          "arn:aws:s3:::leeward-mistral-123456789012-us-west-2/compiled/*",
          "arn:aws:s3:::weights",
          "arn:aws:s3:::weights/*",
        ], resource)
      ])
    ])
    error_message = "The workers' role reaches more than models and compiled graphs: the bucket also holds Terraform's state."
  }
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.models.policy).Statement : statement.Resource if contains(flatten([statement.Action]), "s3:PutObject")
    ] == ["arn:aws:s3:::leeward-mistral-123456789012-us-west-2/compiled/*"]
    error_message = "The workers may write elsewhere than to compiled/."
  }
}

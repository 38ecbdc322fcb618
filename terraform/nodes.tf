# Managed node groups: `core` for what must always run; `inf2` only for the model, unless Karpenter launches those nodes.

locals {
  disks_gib = { core = var.core_nodes.disk_gib, inf2 = var.inf2_nodes.disk_gib }
  pools     = { for pool, disk_gib in local.disks_gib : pool => { disk_gib = disk_gib } if pool == "core" || !local.karpenter }

  zones_of_nodes = {
    core = local.zones
    inf2 = [for zone in local.zones : zone if contains(local.zones_inf2, zone)]
  }
}

resource "aws_launch_template" "pool" {
  for_each = local.pools

  name                   = "${local.prefix}-${each.key}"
  update_default_version = true

  # Tokens only, and one hop: a pod (a second hop) cannot take the node's credentials.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = each.value.disk_gib
      encrypted             = true
      delete_on_termination = true
    }
  }

  # Default tags apply to the template only; tags of what it launches must be set here.
  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, { Name = "${local.prefix}-${each.key}" })
    }
  }
}

resource "aws_eks_node_group" "core" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "core"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = [for zone in local.zones_of_nodes.core : aws_subnet.private[zone].id]
  version         = var.kubernetes_version
  ami_type        = "AL2023_x86_64_STANDARD"
  capacity_type   = "ON_DEMAND"
  instance_types  = [var.core_nodes.instance_type]
  labels          = { "leeward.dev/pool" = "core" }

  launch_template {
    id      = aws_launch_template.pool["core"].id
    version = aws_launch_template.pool["core"].latest_version
  }

  scaling_config {
    min_size     = var.core_nodes.count
    max_size     = var.core_nodes.count
    desired_size = var.core_nodes.count
  }

  update_config {
    max_unavailable = 1
  }

  # A node needs its add-ons, its permissions and a route to the registry when it joins, and must be gone before they are.
  depends_on = [
    aws_eks_addon.node,
    aws_iam_role_policy_attachment.node,
    aws_route.to_nat,
    aws_route_table_association.private,
    aws_vpc_endpoint.s3,
  ]
}

resource "aws_eks_node_group" "inf2" {
  count = local.karpenter ? 0 : 1

  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "inf2"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = [for zone in local.zones_of_nodes.inf2 : aws_subnet.private[zone].id]
  version         = var.kubernetes_version
  ami_type        = "AL2023_x86_64_NEURON"
  capacity_type   = "ON_DEMAND"
  instance_types  = local.inf2_types
  labels          = { "leeward.dev/pool" = "inf2" }

  # Accelerators are expensive: only pods that request them run here.
  taint {
    key    = "aws.amazon.com/neuron"
    value  = "true"
    effect = "NO_SCHEDULE"
  }

  launch_template {
    id      = aws_launch_template.pool["inf2"].id
    version = aws_launch_template.pool["inf2"].latest_version
  }

  scaling_config {
    min_size     = var.inf2_nodes.count
    max_size     = var.inf2_nodes.count
    desired_size = var.inf2_nodes.count
  }

  update_config {
    max_unavailable = 1
  }

  # A node needs its add-ons, its permissions and a route to the registry when it joins, and must be gone before they are.
  depends_on = [
    aws_eks_addon.node,
    aws_iam_role_policy_attachment.node,
    aws_route.to_nat,
    aws_route_table_association.private,
    aws_vpc_endpoint.s3,
  ]
}

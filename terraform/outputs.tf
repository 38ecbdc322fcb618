output "region" {
  description = "Region of everything."
  value       = var.region
}

output "cluster_name" {
  description = "Name of the EKS cluster."
  value       = aws_eks_cluster.this.name
}

output "control_plane_cidrs" {
  description = "Addresses from which the Kubernetes API connects to nodes and pods; no pod has one of them."
  value       = [for subnet in aws_subnet.control_plane : subnet.cidr_block]
}

output "serving_repository_url" {
  description = "Where the serving image is pushed to and pulled from."
  value       = aws_ecr_repository.serving.repository_url
}

output "redis" {
  description = "The endpoint that follows Redis's primary; null without enable_gcs_ha."
  value = one([for group in aws_elasticache_replication_group.gcs : {
    address = group.primary_endpoint_address
    port    = group.port
  }])
}

output "node_groups" {
  description = "Names of the node groups by pool."
  value = merge(
    { core = aws_eks_node_group.core.node_group_name },
    { for group in aws_eks_node_group.inf2 : "inf2" => group.node_group_name },
  )
}

output "karpenter" {
  description = "Karpenter's settings: its queue, and the properties of its nodes; null with a managed group instead."
  value = one([for queue in aws_sqs_queue.karpenter : {
    queue_name        = queue.name
    instance_profile  = aws_iam_instance_profile.karpenter_node[0].name
    subnet_ids        = { for pool, zones in local.zones_of_nodes : pool => [for zone in zones : aws_subnet.private[zone].id] }
    security_group_id = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
    tags              = local.tags
  }])

  # Without these a controller has no permissions, and a node is unknown to the cluster or cannot pull images.
  depends_on = [
    aws_cloudwatch_event_target.karpenter,
    aws_eks_access_entry.karpenter_node,
    aws_eks_pod_identity_association.karpenter,
    aws_iam_role_policy_attachment.karpenter_node,
  ]
}

# So that the outputs exist only once the cluster can be used and has DNS.
output "ready" {
  description = "What the cluster needs before it can be used: the add-ons and the administrators."
  value = {
    addons = sort(concat([for addon in aws_eks_addon.node : addon.addon_name], [aws_eks_addon.dns.addon_name]))
    admins = sort([for entry in aws_eks_access_policy_association.admin : entry.principal_arn])
  }
}

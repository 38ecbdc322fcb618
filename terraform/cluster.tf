# The control plane and the add-ons that every node needs.

locals {
  service_cidr = "172.20.0.0/16"
}

# Created before the cluster; otherwise EKS creates it without a retention, and it is not in Terraform's state.
resource "aws_cloudwatch_log_group" "cluster" {
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts with its own key; the logs hold no secret values
  #checkov:skip=CKV_AWS_338:A drill's logs are useful for days; the evidence is kept in the bucket
  name              = local.names.log_group
  retention_in_days = var.log_retention_days
}

resource "aws_eks_cluster" "this" {
  #checkov:skip=CKV_AWS_58:EKS encrypts all API data in envelopes since 1.28; secrets_kms_key_arn sets a key of your own. One created here would stay for a week after destroy
  #checkov:skip=CKV_AWS_39:The pipeline may run anywhere; IAM decides about access, and public_access_cidrs restricts or closes the endpoint
  #checkov:skip=CKV_AWS_38:As above
  name                          = var.name
  version                       = var.kubernetes_version
  role_arn                      = aws_iam_role.cluster.arn
  bootstrap_self_managed_addons = false
  enabled_cluster_log_types     = ["api", "audit", "authenticator", "controllerManager", "scheduler"]

  # Permissions are access entries, all of them in identity.tf; the cluster's creator gets no implicit one.
  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = false
  }

  vpc_config {
    subnet_ids              = [for subnet in aws_subnet.control_plane : subnet.id]
    endpoint_private_access = true
    endpoint_public_access  = length(var.public_access_cidrs) > 0
    public_access_cidrs     = length(var.public_access_cidrs) > 0 ? var.public_access_cidrs : null
  }

  kubernetes_network_config {
    ip_family         = "ipv4"
    service_ipv4_cidr = local.service_cidr
  }

  # Ends with standard support instead of entering the more expensive extended support.
  upgrade_policy {
    support_type = "STANDARD"
  }

  dynamic "encryption_config" {
    for_each = var.secrets_kms_key_arn[*]

    content {
      resources = ["secrets"]
      provider {
        key_arn = encryption_config.value
      }
    }
  }

  depends_on = [
    aws_cloudwatch_log_group.cluster,
    aws_iam_role_policy_attachment.cluster,
  ]
}

locals {
  # A node is Ready only with these add-ons; DNS needs nodes to run on.
  node_addons = toset(["vpc-cni", "kube-proxy", "eks-pod-identity-agent"])
}

# EKS's default version for this Kubernetes: an upgrade of the cluster also upgrades its add-ons.
data "aws_eks_addon_version" "default" {
  for_each = setunion(local.node_addons, ["coredns"])

  addon_name         = each.key
  kubernetes_version = var.kubernetes_version
}

resource "aws_eks_addon" "node" {
  for_each = local.node_addons

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = data.aws_eks_addon_version.default[each.key].version
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"
  # So that manifests/network.yaml is enforced.
  configuration_values = each.key == "vpc-cni" ? jsonencode({ enableNetworkPolicy = "true" }) : null

  dynamic "pod_identity_association" {
    for_each = each.key == "vpc-cni" ? [aws_iam_role.cni.arn] : []

    content {
      service_account = "aws-node"
      role_arn        = pod_identity_association.value
    }
  }

  depends_on = [aws_iam_role_policy_attachment.cni]
}

resource "aws_eks_addon" "dns" {
  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = "coredns"
  addon_version               = data.aws_eks_addon_version.default["coredns"].version
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  depends_on = [aws_eks_node_group.core]
}

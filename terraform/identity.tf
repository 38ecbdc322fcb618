# Roles and permissions: of the control plane, the nodes, the network plug-in, and the person or role that runs the pipeline.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

# The caller is often an assumed role; EKS needs the role itself, not the session.
data "aws_iam_session_context" "caller" {
  arn = data.aws_caller_identity.current.arn
}

locals {
  managed_policy = "arn:${data.aws_partition.current.partition}:iam::aws:policy"
  admins         = setunion([data.aws_iam_session_context.caller.issuer_arn], var.admin_principal_arns)

  # Nodes may only join and pull images. Pods cannot use these permissions: the metadata service answers only one hop away.
  node_policies = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"])
}

data "aws_iam_policy_document" "trust" {
  for_each = {
    eks  = { service = "eks.amazonaws.com", actions = ["sts:AssumeRole"] }
    ec2  = { service = "ec2.amazonaws.com", actions = ["sts:AssumeRole"] }
    pods = { service = "pods.eks.amazonaws.com", actions = ["sts:AssumeRole", "sts:TagSession"] }
  }

  statement {
    actions = each.value.actions

    principals {
      type        = "Service"
      identifiers = [each.value.service]
    }
  }
}

resource "aws_iam_role" "cluster" {
  name               = local.names.cluster_role
  description        = "Control plane of the EKS cluster ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.trust["eks"].json
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "${local.managed_policy}/AmazonEKSClusterPolicy"
}

resource "aws_iam_role" "node" {
  name               = local.names.node_role
  description        = "Nodes of the EKS cluster ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.trust["ec2"].json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = local.node_policies

  role       = aws_iam_role.node.name
  policy_arn = "${local.managed_policy}/${each.key}"
}

# Only the network plug-in may move addresses between interfaces, through Pod Identity.
resource "aws_iam_role" "cni" {
  name               = local.names.cni_role
  description        = "Network plug-in of the EKS cluster ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.trust["pods"].json
}

resource "aws_iam_role_policy_attachment" "cni" {
  role       = aws_iam_role.cni.name
  policy_arn = "${local.managed_policy}/AmazonEKS_CNI_Policy"
}

resource "aws_eks_access_entry" "admin" {
  for_each = local.admins

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.key
  type          = "STANDARD"
}

resource "aws_eks_access_policy_association" "admin" {
  for_each = local.admins

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.admin[each.key].principal_arn
  policy_arn    = "arn:${data.aws_partition.current.partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

  access_scope {
    type = "cluster"
  }
}

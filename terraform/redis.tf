# Where Ray keeps what its head knows, so that a new head takes over. Only with enable_gcs_ha.

locals {
  redis_count = var.enable_gcs_ha ? 1 : 0
}

resource "aws_elasticache_subnet_group" "gcs" {
  count = local.redis_count

  name        = local.names.redis_group
  description = "Ray's global control store of ${var.name}"
  subnet_ids  = [for subnet in aws_subnet.private : subnet.id]
}

resource "aws_elasticache_parameter_group" "gcs" {
  count = local.redis_count

  name        = local.names.redis_group
  family      = "redis7"
  description = "Ray's global control store of ${var.name}"

  # A key evicted is state lost: refuse writes instead.
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }

  # Ray's connection idles for hours; one that Redis closes ends the head.
  parameter {
    name  = "timeout"
    value = "0"
  }
}

resource "aws_security_group" "redis" {
  count = local.redis_count

  name        = local.names.redis_firewall
  description = "Redis of ${var.name}: from its nodes only"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = local.names.redis_firewall }
}

# EKS makes one security group for control plane and nodes; its members are all that may come in.
resource "aws_vpc_security_group_ingress_rule" "redis_from_nodes" {
  count = local.redis_count

  security_group_id            = aws_security_group.redis[0].id
  referenced_security_group_id = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
  description                  = "Redis from the cluster's nodes and pods"
}

resource "aws_elasticache_replication_group" "gcs" {
  #checkov:skip=CKV_AWS_191:At rest encrypted with ElastiCache's own key; one made here would stay for a week after destroy
  count = local.redis_count

  replication_group_id = local.names.redis_group
  description          = "Ray's global control store of ${var.name}"
  engine               = "redis"
  engine_version       = "7.1"
  node_type            = var.redis.node_type
  num_cache_clusters   = 1 + var.redis.replicas
  port                 = 6379
  parameter_group_name = aws_elasticache_parameter_group.gcs[0].name
  subnet_group_name    = aws_elasticache_subnet_group.gcs[0].name
  security_group_ids   = [aws_security_group.redis[0].id]

  # The primary endpoint is a name that follows the primary: this is what Ray is given.
  automatic_failover_enabled = true
  multi_az_enabled           = true

  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  auth_token                 = var.redis_auth_token
  # A new token is taken besides the old one, so a running head is not thrown out.
  auth_token_update_strategy = "ROTATE"

  # The store describes live processes: restored tomorrow it describes nothing.
  snapshot_retention_limit   = 0
  auto_minor_version_upgrade = true
  apply_immediately          = true
}

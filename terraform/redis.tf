# Redis for the state of Ray's head, so that a new head can take over. Only with enable_gcs_ha.

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

  # An evicted key would be lost state, so writes are refused instead.
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }

  # Ray's connection may idle for hours; if Redis closed it, the head would end.
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

# EKS creates one security group for control plane and nodes; only its members may connect.
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
  #checkov:skip=CKV_AWS_191:Encrypted at rest with ElastiCache's own key; one created here would stay for a week after destroy
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

  # Ray gets the primary endpoint, a name that follows the primary.
  automatic_failover_enabled = true
  multi_az_enabled           = true

  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  auth_token                 = var.redis_auth_token
  # A new token is accepted besides the old one, so a running head stays connected.
  auth_token_update_strategy = "ROTATE"

  # The data describe running processes, so a later restore would be useless.
  snapshot_retention_limit   = 0
  auto_minor_version_upgrade = true
  apply_immediately          = true
}

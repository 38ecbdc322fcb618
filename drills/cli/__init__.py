"""The command line `leeward`, for any RayService and with nothing but a kubeconfig. No Prefect, Terraform or AWS in it."""

"""What must hold before anything is made or deployed: tools, model, images, credentials, zones, quotas."""

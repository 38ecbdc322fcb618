"""The service itself: the RayService, its workers, API key and chat, and how it is observed."""

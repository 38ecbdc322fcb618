module leeward/pause

go 1.26

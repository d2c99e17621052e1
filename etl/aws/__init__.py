"""AWS: region, endpoint and credentials from the environment, clients, and what faults mean."""

"""OCI registries: bundles are pulled from them and pushed to them, and single files fetched."""

from __future__ import annotations

from wanrun.sources.oci.artifact import fetch
from wanrun.sources.oci.pulling import pull
from wanrun.sources.oci.pushing import push

__all__ = ["fetch", "pull", "push"]

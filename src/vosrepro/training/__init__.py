"""Training of any method: clips, augmentation, the loop, device leases, the launcher.

The entry points are `vosrepro.training.loop.train` and `vosrepro.training.devices.launch.launch`. Importing this
package imports nothing else, so that the launcher starts quickly.
"""

"""What pyVmomi reads of a virtual machine's guest: HOST PORT USER PASSWORD NAME."""

import ssl
import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

host, port, user, password, name = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
service = SmartConnect(host=host, port=int(port), user=user, pwd=password, sslContext=context)
content = service.RetrieveContent()
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
guest = next(machine for machine in view.view if machine.name == name).guest
mapped = [nic for nic in guest.net if nic.deviceConfigId > 0]
print(f"{guest.hostName}, {guest.ipAddress or '-'}, {len(mapped)}, {guest.guestStateChangeSupported}")
Disconnect(service)

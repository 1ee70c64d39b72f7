device-title = Connect a device
device-text = Enter the code that your device shows.
device-compare = Check that your device shows this code.
device-code = Code
device-continue = Continue
device-never = Enter only a code from a device of your own, in front of you. A code that someone sent you gives them access to your account.
device-consent = Let { $client } use your account on a device?
device-caution = Is this device in front of you?
device-caution-text = Allow this only if you have just started it there yourself, and the device shows the code below. If somebody sent you a code or a link, deny it.
device-other-network = The request came from another network than this browser’s.
device-code-shown = Code on the device
device-address = Network address
device-agent = Program
device-time = Requested
device-just-now = less than a minute ago
device-minutes-ago =
    { $count ->
        [one] { $count } minute ago
       *[other] { $count } minutes ago
    }
device-approved = Your device is connected
device-approved-text = It continues by itself in a few seconds. You can close this page.
device-denied = You denied the request
device-denied-text = The device gets no access to your account. You can close this page.
device-expired = This code has expired
device-expired-text = Let the device show a new code, and enter that.
device-used = This code has been used
device-used-text = It is valid once. To connect a device again, let it show a new code.
device-elsewhere = This code was entered in another browser
device-elsewhere-text = If that was you, finish there. If not, let the device show a new code, and enter that.
device-another = Enter another code
problem-wrong-code = This code is not valid. Check it on your device, or let it show a new one.

/* fault_net: what the network and its hosts agree on.
 *
 * A host hands its tun device to the network: one datagram with its number, the descriptor beside it, answered by one byte
 * once packets flow. Host N has the address 10.77.0.N. */

#ifndef FM_TESTS_FAULT_NET_H
#define FM_TESTS_FAULT_NET_H

enum {
    FAULT_HOSTS_MAX = 64,       /* numbers 1 to 63 */
    FAULT_MTU = 9000,           /* few packets a frame: what is tested is not the network's speed */
    FAULT_CONTROL_PORT = 7400,  /* TCP to or from here is `control`, everything else `live` */
    FAULT_SKIPPED = 77          /* exit status: this machine does not allow it */
};

#define FAULT_NETWORK 0x0a4d0000u /* 10.77.0.0/24 */

#endif

// govmomi-toolbox is a guest for the laboratory's simulated VMware host: the tools daemon of
// github.com/vmware/govmomi/toolbox, whose power handlers only say what they were asked for.
package main

import (
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmware/govmomi/toolbox"
)

// say answers a power request with a line on standard output and nothing else: the machine below must not notice.
func say(operation string) func() error {
	return func() error {
		fmt.Println(operation)
		return nil
	}
}

func main() {
	service := toolbox.NewService(toolbox.NewBackdoorChannelIn(), toolbox.NewBackdoorChannelOut())
	service.Power.Halt.Handler = say("halt")
	service.Power.Reboot.Handler = say("reboot")
	service.Power.Suspend.Handler = say("suspend")

	if err := service.Start(); err != nil {
		log.Fatal(err)
	}

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		service.Stop()
	}()
	service.Wait()
}
